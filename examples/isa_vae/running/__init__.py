"""What every run needs: its folder, checkpoint, process, scores and outputs."""
