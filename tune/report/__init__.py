"""What a finished or running sweep says: a page, a table of trials, the best experiment."""
