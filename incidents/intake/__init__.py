"""From a body on the wire to an incident: stored first, understood later, told to people only when it is news.

1. `app` authorises a sender, and stores the body (`storing`) before anything thinks about it.
2. The clock has it read (`handling`, one file for each form) and keeps what it says (`keeping`, `turns`).
3. The clock tells incidents of it by the rules (`grouping`, `telling`), unless it is silenced or flaps.
"""
