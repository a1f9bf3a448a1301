"""People ask, whoever is at the desk answers, an archive keeps the answers; what is said to somebody away waits."""

from smart_router import Context, SmartRouter

app = SmartRouter()
user = app.endpoint("user")  # actors are user/ada, user/bob, … each with a mailbox
desk = app.endpoint("desk", mailbox="endpoint")  # desk/carol, desk/dan, … share one
app.endpoint("archive", mailbox="endpoint", ack="client")  # confirms what it has filed


@user.on("ask")
def ask(ctx: Context) -> None:
    ctx.publish("desk")


@desk.on("answer")
def answer(ctx: Context) -> None:
    ctx.publish(ctx.message.ids.get("user", ""))
    ctx.publish("archive", type="file")
