"""The report of a replay: `log` reads decisions, `build` measures them (`facts`), `replay_page` draws the page.

The report is two files: report.json (facts.ReplayReport), and report.html, which depends on report.json alone.
"""
