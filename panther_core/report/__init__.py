"""What reports of trainings and of replays share: measures, pieces of HTML, and (with matplotlib) figures."""
