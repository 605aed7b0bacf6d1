"""The project and its machine: init, up, doctor, env, help."""
