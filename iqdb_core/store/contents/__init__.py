"""What does the store hold as a whole? Listings, exports, backups and checks of all of it."""
