"""Restart Prefect's processes that live and do not work.

systemd sees a process that ends. This sees what only Prefect's own traces show: background services whose worker or scheduler
has gone silent, and an API server that does not answer, or whose stream of events, /events/out, has died with an outage of
Redis. It runs as Prefect's own user: it asks a process to stop, and systemd starts it again. Nothing else needs a right.

It restarts a process only when a second sign, which does not come the same way, agrees with the first: what the kernel shows of
the process, of its port and of its connections. When the two disagree, the fault may be in how the watchdog looks; it then says
both, once, and does nothing.

It restarts nothing while a deployment goes on (its lock is in Redis), no server that is drained, nothing while PostgreSQL or
Redis is away, one API server and one services process of the whole site at a time, no other one until that works again, and the
same one again only after a pause that doubles. All the time it also requeues what dead workers of any host hold.

``processes`` and ``probes`` look, ``evidence`` is the second sign, ``faults`` judges, ``restarts`` acts or says why not,
``decisions`` is a round of all of it, and ``program`` the loop around the rounds.
"""
