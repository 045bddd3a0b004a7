"""What the rows say about the paper's claims: questions, statistics and verdicts."""
