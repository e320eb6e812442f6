"""How people are reached: one file a channel, and the sender that empties the outbox.

CHANNELS is the registry: whoever adds a channel writes its file and names it here.
"""

from incidents.channels.base import Channel
from incidents.channels.mail import Mail
from incidents.channels.pagerduty import PagerDuty
from incidents.channels.slack import Slack
from incidents.channels.twilio import Phone, Sms
from incidents.channels.webhook import Webhook

CHANNELS: dict[str, Channel] = {
    channel.kind: channel for channel in (PagerDuty(), Slack(), Mail(), Phone(), Sms(), Webhook())
}
