"""Pictures and where they come from: dSprites, 3D Faces and cars3d, or their stand-ins."""
