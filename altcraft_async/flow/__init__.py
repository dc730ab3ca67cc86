"""When something is sent: pure laws whose time and randomness are arguments."""
