"""Final answers: finding and judging them, and a policy's own."""
