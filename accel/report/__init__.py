"""What a result looks like to a reader: a format a file."""
