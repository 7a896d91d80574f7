"""What a person must find out and decide about money."""
