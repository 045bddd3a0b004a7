"""The mechanism experiment: small autoencoders of pictures of disks."""
