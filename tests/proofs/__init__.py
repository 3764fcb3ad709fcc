"""What the proofs share: real processes to start and kill, a recorder of every Job, and a checker of histories."""
