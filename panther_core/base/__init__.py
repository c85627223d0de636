"""What every other package uses: errors, output to people, settings and their ranges, files, units of time, log
odds."""
