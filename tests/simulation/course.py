"""The course of a world that a seed draws: what is sent, what breaks, who dies when; then everything heals, and comes
to rest."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.agent.host.stopping import Manner
from tests.simulation import aside, checkers, signing
from tests.simulation.life import Life
from tests.simulation.world import Kind, World

if TYPE_CHECKING:
    from tests.simulation.hosts import Host

HOURS_12 = 43_200.0
HEALED_WITHIN_S = 4_000.0


def drawn(r: random.Random) -> Kind:
    """What kind of world."""
    kind = Kind(
        policy=r.choice(("free-for-all", "free-for-all", "one-at-a-time", "resources")),
        max_jobs=r.choice((0, 3)),
        on_lost=r.choice(("continue", "continue", "kill")),
        on_stop=r.choice(("drain", "leave", "kill")),
        fifo=r.random() < 0.15,
        table=r.random() < 0.25,
        power=r.random() < 0.3,
        most_receives=r.choice((None, 5, 20)),
    )
    if kind.table and r.random() < 0.6:
        kind.hosts = 2
    if not kind.table and r.random() < 0.02:
        # Jobs that last longer than SQS holds any message.
        kind = replace(
            kind, long=True, visibility=600.0, wait=20.0, lasts=(1.0, HOURS_12 + 600.0, HOURS_12 - 900.0), codes=(0,)
        )
    kind.damage = not kind.long and r.random() < 0.25
    return kind


def world_of(seed: int) -> World:
    """As its seed makes it; nothing has happened yet."""
    draws = random.Random(seed)
    kind = drawn(draws)
    kind.signed = seed % 5 == 4 and not kind.long
    return World(kind, draws)


def live(world: World) -> None:
    """From the first message to rest. Raises the first thing that is not as it must be."""
    world.note(world.kind)
    _send_some(world)
    world.faults = True
    courses = [world.loop.work(_course(world, host)) for host in world.hosts]
    weather = world.loop.work(_weather(world))
    world.go_on(lambda: all(task.done() for task in courses), HOURS_12 * 3)
    weather.cancel()
    for task in courses:
        task.result()
    heal(world)


def heal(world: World) -> None:
    """Nothing breaks any more: in the end all is told, once, and nothing is left of it."""
    world.note("heals")
    world.faults = world.results_away = world.dead_letters_away = False
    for host in world.hosts:
        if host.life is None or world.chance(0.5):
            if host.life is not None:
                host.life.kill()
            Life(host).begin()
        else:
            host.drop_links()
    lives = [host.life for host in world.hosts if host.life is not None]
    world.go_on(lambda: all(life.up for life in lives), 60.0)
    for life in lives:
        life.operations.resume(by="the simulation")
    # All of them may wait for each other.
    within = HEALED_WITHIN_S + max(world.kind.lasts) * ((len(world.sent) + world.unsent) if world.kind.long else 1)
    world.go_on(lambda: checkers.at_rest(world), within, every=60.0 if world.kind.long else 0.5)
    checkers.in_the_end(world)
    world.note("is at rest")


def _send_some(world: World) -> None:
    """Runs of few jobs, so that they meet; some of them twice, some under an id that another has."""
    for number in range(world.one_of((2, 3) if world.kind.long else range(4, 10))):
        body = {
            "job": world.one_of("abc"),
            "run_id": f"r{number}",
            "command": "x",
            "retries": {"max": world.one_of((0, 0, 0, 2)), "backoff": "2s"},
            "overlap": world.one_of(("allow", "allow", "wait", "skip", "replace")),
        }
        if world.chance(0.2):
            body["ack"] = "on-start"
        if world.kind.policy == "resources":
            body["resources"] = {"cpu": world.one_of((0.5, 1, 3)), "memory": world.one_of(("128M", "2G"))}
        _send(world, body)
        if world.chance(0.15):
            _send(world, body)
        if world.chance(0.05):
            # Another run under its id.
            _send(world, {**body, "command": "y"})
        if world.kind.signed:
            signing.intrude(world, body, number)
        if world.chance(0.05):
            world.send({"job": "a", "run_id": f"bad{number}", "comand": "x"}, group="bad")


def _send(world: World, body: dict[str, object]) -> None:
    # One run's messages are of one group, as its sender means them.
    group = f"g{int(str(body['run_id'])[1:]) % 2}" if world.kind.fifo else None
    if world.chance(0.6):
        world.send(body, group=group)
    else:
        world.unsent += 1
        world.loop.later(world.one_of((0.01, 2.0, 20.0)), _send_later, world, body, group)


def _send_later(world: World, body: dict[str, object], group: str | None) -> None:
    world.unsent -= 1
    world.send(body, group=group)


async def _course(world: World, host: Host) -> None:
    """The lives of the agents of one host, and how each ends. The last one is left alive."""
    lives = world.one_of(range(1, 7))
    for number in range(lives):
        life = Life(host)
        life.begin()
        await asyncio.sleep(world.one_of((0.03, 0.2, 1.0, 3.0, 10.0, 40.0)))
        if number == lives - 1 and world.chance(0.5):
            return
        if world.kind.power and world.chance(0.3):
            host.power_cut()
        elif world.chance(0.2) and life.up and not life.dead:
            life.stop(world.one_of(tuple(Manner)))
            await asyncio.sleep(world.one_of((0.05, 3.0, 60.0)))
            life.kill()
        else:
            life.fuse = world.one_of(range(1, 60))
            await asyncio.sleep(0.5)
            life.kill()
        if world.kind.damage and world.chance(0.3):
            aside.put_aside(host)
        await asyncio.sleep(world.one_of((0.1, 2.0, 35.0)))


async def _weather(world: World) -> None:
    """What happens to hosts and agents while they go on."""
    while True:
        await asyncio.sleep(world.random.expovariate(1 / 2.5))
        host = world.one_of(world.hosts)
        _strike(world, host)
        if world.chance(0.02):
            world.results_away = not world.results_away
            world.note("the results queue", "is away" if world.results_away else "is back")


def _strike(world: World, host: Host) -> None:
    life, draw = host.life, world.random.random()
    if draw < 0.15:
        host.supervisor_dies()
    elif draw < 0.4:
        world.note(host.name, "the connection is lost")
        host.drop_links()
    elif draw > 0.95 and world.kind.damage and life is not None:
        aside.put_aside(host)
    elif life is None or not life.up:
        return
    elif draw < 0.7:
        runs = [run.execution.run_id for run in life.services.roster.all()]
        runs += [waiting.job.run_id for waiting in life.door.held]
        if runs:
            run = world.one_of(runs)
            world.note("cancel", run)
            life.do(life.operations.cancel(run, by="the simulation"))
    elif draw < 0.8:
        policies = ("free-for-all", "one-at-a-time", "resources")
        life.reload(replace(world.kind, policy=world.one_of(policies), max_jobs=world.one_of((0, 2))))
    elif draw < 0.85:
        world.note("pause")
        life.operations.pause(by="the simulation", until=world.wall + world.one_of((1.0, 20.0)))
    elif draw < 0.88:
        world.note("drain")
        life.operations.drain(by="the simulation")
