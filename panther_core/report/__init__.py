"""What the reports of versions, of replays and of users share: measures, page templates, and figures by matplotlib."""
