"""Who may reach what: facts and ``now`` in, ``Allow | StepUp | Deny`` out. Pure.

schema.cedarschema  what policies may speak of; schema.py parses it
answers.py          the three answers
facts.py            what answers are made from
hours.py            "Mon-Fri 08:00-18:00 Europe/Paris"
grants.py           a grant as a Cedar policy
cedar_text.py       Cedar text as tokens and positions
policies.py         one policy, read
check.py            an administrator's files: policies, or problems with line, column and fix
engine.py           Cedar, guarded
decide.py           decide, explain
deadlines.py        when an answer may next change by itself
"""

from controller.decision.answers import Allow, Answer, Deny, Explanation, StepUp
from controller.decision.deadlines import next_change
from controller.decision.decide import decide, decide_all, explain, standing
from controller.decision.facts import SessionFacts

__all__ = [
    "Allow",
    "Answer",
    "Deny",
    "Explanation",
    "SessionFacts",
    "StepUp",
    "decide",
    "decide_all",
    "explain",
    "next_change",
    "standing",
]
