"""Routes, a file for each subject; thin: parse, one call, render."""
