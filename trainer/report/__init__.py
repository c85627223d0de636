"""The report of a model version: `measure` while training still has the data, `version_page` from what was measured.

Training writes two files into the artifact: report.json (facts.VersionReport; under the artifact's checksums) and
report.html, which is a pure function of report.json and can be drawn again at any time (`panther models report`).
"""
