"""Reads a token through the client that was generated from the agent's OpenAPI document, and prints it."""

import sys

import httpx
from strongroom_agent_client import Client
from strongroom_agent_client.api.default import get
from strongroom_agent_client.models import GetStrongroom

path, name = sys.argv[1:]
agent = Client(base_url="http://agent", httpx_args={"transport": httpx.HTTPTransport(uds=path)})
token = get.sync(name=name, client=agent, strongroom=GetStrongroom.VALUE_0)
sys.stdout.buffer.write(token.payload.read())
