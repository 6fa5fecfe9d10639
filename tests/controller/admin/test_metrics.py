"""Metrics as text: what a collector reads, whatever names people chose."""

from controller.admin.metrics import Metric, Sample, exposition


def test_the_text_is_what_collectors_read() -> None:
    ends = Metric(
        "gloam_certificate_end_seconds",
        "gauge",
        "When a certificate ends.",
        (Sample(1790000000.0, {"holder": "gateway/edge"}), Sample(1.5, {"holder": 'a"b\\c\nd', "user": "alice"})),
    )
    sessions = Metric("gloam_sessions", "gauge", "Live sessions.", (Sample(3.0),))
    assert exposition([ends, sessions]) == (
        "# HELP gloam_certificate_end_seconds When a certificate ends.\n"
        "# TYPE gloam_certificate_end_seconds gauge\n"
        'gloam_certificate_end_seconds{holder="gateway/edge"} 1790000000.0\n'
        'gloam_certificate_end_seconds{holder="a\\"b\\\\c\\nd",user="alice"} 1.5\n'
        "# HELP gloam_sessions Live sessions.\n"
        "# TYPE gloam_sessions gauge\n"
        "gloam_sessions 3.0\n"
    )
    assert exposition([]) == ""
