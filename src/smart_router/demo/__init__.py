"""The live chat of `serve --demo`: the page's files and the bot of agent 456 (docs/live-chat.md)."""

from smart_router.demo.bot import run_bot
from smart_router.demo.own_node import run_bot_of_node
from smart_router.demo.page_files import page_files

__all__ = ["page_files", "run_bot", "run_bot_of_node"]
