"""The training loop and its parts: distribution, optimizer, schedules, losses, logging."""
