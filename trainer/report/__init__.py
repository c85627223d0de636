"""The report of a model version: `measure` makes it while training has the data, `version_page` draws it.

Training writes two files into the artifact: report.json (facts.VersionReport; under the artifact's checksums) and
report.html, which depends on report.json alone and can be drawn again at any time (`panther models report`).
"""
