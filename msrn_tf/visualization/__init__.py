"""Pictures for people: attention heat-maps."""
