"""Tests of the paper's claims on the rows of a sweep: questions, statistics and verdicts."""
