"""One page of figures a model version: `measure` while training still has the data, `page` from what was measured.

Training writes two files into the artifact: report.json (facts.Report; under the artifact's checksums) and report.html,
which is a pure function of report.json and can be drawn again at any time (`panther models report`).
"""
