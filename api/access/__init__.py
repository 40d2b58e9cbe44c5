"""Who may do what, and how often: tokens, rights, rates. Decides before any route runs."""
