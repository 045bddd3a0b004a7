"""Image data sets: dSprites, 3D Faces and cars3d, or their stand-ins."""
