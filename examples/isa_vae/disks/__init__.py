"""The mechanism experiment: small autoencoders on images of disks."""
