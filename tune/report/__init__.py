"""What a sweep found: a page, a table and the best experiment, from its study and the folders of its trials."""
