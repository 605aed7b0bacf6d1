"""The servers that a target needs: started, stopped, asked whether they are there."""
