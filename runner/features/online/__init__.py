"""Former path of `runner.online`."""
