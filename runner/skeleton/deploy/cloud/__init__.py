"""The parts of the deployment, one module each."""
