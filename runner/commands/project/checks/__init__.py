"""What `runner doctor` looks at, by place."""
