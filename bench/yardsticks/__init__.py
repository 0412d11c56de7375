"""What Tollwire is held against, measured in the same run on the same machine."""
