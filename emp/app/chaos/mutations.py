"""Where the engine is broken, and how: each of these costs somebody money if it is not noticed."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change of one place."""

    name: str
    module: str
    old: str
    new: str
    kinds: tuple[str, ...]  # of the faults that its worlds have: those that could show it


_KILLS = ("crash_io", "kill", "power_io")
_POWER = ("power", "power_io")

MUTANTS = (
    # the order of things
    Mutant(
        "report_applied_before_it_is_recorded",
        "emp.engine.driver",
        """                new = self._record_reports(self.ledger, updates)
        for update, is_new in zip(updates, new, strict=True):
            if is_new:
                self.deliver(self.engine.on_report(update))
""",
        """                outputs = [self.engine.on_report(update) for update in updates]
                new = self._record_reports(self.ledger, updates)
        for update, output, is_new in zip(updates, outputs, new, strict=True):
            if is_new:
                self.deliver(output)
""",
        ("crash_io",),
    ),
    Mutant(
        "order_sent_before_it_is_recorded",
        "emp.engine.driver",
        """            self._record_intents(commands, row)
        if self.failed and not failed_before:
            return
        for command in commands:
            if not foreign:
                self.engine.sent(command)
            self.commands += 1
            if not self._may_leave(command):
                self._forgo(command_of(command))
            elif self._is_too_late(command):
                self._refuse(command_of(command), LATE)
            else:
                self._send(command)
""",
        """            pass
        for command in commands:
            if not foreign:
                self.engine.sent(command)
            self.commands += 1
            if not self._may_leave(command):
                self._forgo(command_of(command))
            elif self._is_too_late(command):
                self._refuse(command_of(command), LATE)
            else:
                self._send(command)
        with self._surviving():
            self._record_intents(commands, row)
""",
        ("crash_io", "power_io"),
    ),
    Mutant(
        "row_of_an_order_not_recorded",
        "emp.engine.driver",
        "                self.ledger.record_note(decision_note(name, row))\n",
        "                del name\n",
        _POWER,
    ),
    Mutant(
        "commands_leave_after_a_failed_record",
        "emp.engine.driver",
        "        if self.failed and not failed_before:\n            return\n",
        "",
        ("failed_sync", "disk_full"),
    ),
    # the ledger
    Mutant(
        "ledger_not_synced",
        "emp.journal.ledger",
        "PRAGMA synchronous=FULL",
        "PRAGMA synchronous=OFF",
        _POWER,
    ),
    Mutant(
        "ledger_synced_at_checkpoints_only",
        "emp.journal.ledger",
        "PRAGMA synchronous=FULL",
        "PRAGMA synchronous=NORMAL",
        _POWER,
    ),
    Mutant(
        "crc_not_chained",
        "emp.journal.reader",
        "return zlib.crc32(payload, zlib.crc32(head.encode(), before))",
        "return zlib.crc32(payload, zlib.crc32(head.encode(), 0))",
        ("tamper",),
    ),
    Mutant(
        "high_water_mark_not_moved",
        "emp.journal.high_water",
        "        disk().pwrite(self._file, mark_text(mark), 0)\n",
        "        return\n",
        ("bit_flip",),
    ),
    Mutant(
        "ledger_of_a_crashed_start_is_no_ledger",
        "emp.journal.reader",
        "            return not db.execute",
        "            return False and db.execute",
        ("crash_new",),
    ),
    # the journal's files
    Mutant(
        "part_of_the_action_log_not_synced",
        "emp.journal.parts",
        "            write_new(beside, whole.getvalue())\n",
        "            from emp.core.disk import write_all\n"
        "            import os as _os\n"
        "            made = disk().open(beside, _os.O_WRONLY | _os.O_CREAT | _os.O_TRUNC)\n"
        "            write_all(made, whole.getvalue())\n"
        "            disk().close(made)\n",
        _POWER,
    ),
    Mutant(
        "small_files_not_synced",
        "emp.core.disk",
        "        write_all(file, data)\n        disk().sync(file)\n",
        "        write_all(file, data)\n",
        _POWER,
    ),
    Mutant(
        "run_folder_not_synced",
        "emp.journal.run",
        "            disk().sync_folder(path.parent)\n        except OSError as error:\n            shutil",
        "        except OSError as error:\n            shutil",
        _POWER,
    ),
    # starting again
    Mutant(
        "ids_begin_anew",
        "emp.engine.rebuild",
        "    engine.sequence = max(engine.sequence, rebuilt.next_sequence - 1)\n",
        "",
        _KILLS,
    ),
    Mutant(
        "ids_of_unrecorded_orders_used_again",
        "emp.engine.recover",
        "UNRECORDED = 1_000.0",
        "UNRECORDED = 0.0",
        ("failed_sync",),
    ),
    Mutant(
        "halts_forgotten_at_a_restart",
        "emp.engine.rebuild",
        "        engine.restore_halt(engine.orders.instruments.index(name), reason)\n",
        "        pass\n",
        ("owner_halt", "kill"),
    ),
    Mutant(
        "checkpoint_without_open_orders",
        "emp.engine.checkpoint",
        "        open=[order.original.cl_ord_id for order in orders.open_orders()],\n",
        "        open=[],\n",
        ("half_open", "lost_order", "network_stall", "kill"),
    ),
    Mutant(
        "checkpoint_without_halts",
        "emp.engine.checkpoint",
        '            if risk["halted"][i]\n',
        "            if False\n",
        ("owner_halt", "kill"),
    ),
    Mutant(
        "old_rows_not_verified",
        "emp.engine.live",
        "            tasks.append(self._start(self._verify_history))\n",
        "            pass\n",
        ("tamper",),
    ),
    Mutant(
        "damage_not_noted",
        "emp.engine.history",
        "        ledger.note_damage(error.what)\n",
        "",
        ("tamper",),
    ),
    Mutant(
        "forgotten_order_not_known_again",
        "emp.engine.driver",
        "            recall(ledger, self.engine.orders, one.clOrdID)\n",
        "            pass\n",
        ("bust", "late_report", "twice_report", "away"),
    ),
    Mutant(
        "checkpoint_while_nothing_is_marked",
        "emp.engine.checkpoint",
        "            ledger.record_note(account_note(one.name, engine.desk.account[i], ts))\n",
        "            pass\n",
        ("kill", "power"),
    ),
    # others on the account
    Mutant(
        "fills_of_others_not_booked",
        "emp.engine.reconciliation.positions",
        "            self.claims.add(index(applied.stranger.instrument), applied.stranger)\n",
        "            pass\n",
        ("by_hand",),
    ),
    Mutant(
        "fills_of_others_believed",
        "emp.engine.engine",
        "        self.positions.hear(update, applied)\n",
        "        self.positions.hear(update, applied)\n"
        "        doubted = filter(self.positions.claims.doubted, range(len(self.instruments)))\n"
        "        for k in list(doubted):\n"
        "            output.adjustments += self.positions.confirm(k, self.positions.claims.lots(k))\n",
        ("by_hand", "overfill"),
    ),
    Mutant(
        "fills_of_others_booked_again",
        "emp.execution.orders",
        "        self._strangers[name] = update.filled\n",
        "",
        ("by_hand", "twice_report", "cut_server"),
    ),
    Mutant(
        "fills_of_others_not_recorded",
        "emp.engine.driver",
        "            self._note_adjustment(adjusted)\n",
        "            pass\n",
        ("by_hand", "kill"),
    ),
    Mutant(
        "positions_not_watched",
        "emp.engine.live",
        "        tasks.append(self._start(self._agreement.run))\n",
        "",
        ("in_silence",),
    ),
    Mutant(
        "positions_not_asked_for",
        "emp.engine.recover",
        "        positions, prices = await self._held()\n        self._adjust(positions, prices)\n",
        "",
        ("silent_order", "lost_report", "failed_sync", "kill"),
    ),
    Mutant(
        "loss_marks_not_recorded",
        "emp.engine.upkeep",
        "                    self._ledger.record_note(account_note(one.name, account, self._market.now(i)))\n",
        "                    pass\n",
        ("kill", "power"),
    ),
    Mutant(
        "account_not_remembered",
        "emp.journal.account_file",
        "            write_atomically(self.path, msgspec.json.encode(state))\n",
        "            pass\n",
        ("owner_restart", "owner_halt"),
    ),
    Mutant(
        "halt_not_carried_over",
        "emp.engine.carry",
        '        halted=Reason(int(risk["halt_reason"])).name.lower() if risk["halted"] else "",\n',
        '        halted="",\n',
        ("owner_restart", "owner_halt"),
    ),
    Mutant(
        "loss_of_the_day_not_carried_over",
        "emp.engine.carry",
        '    account["day"], account["day_start"] = state.day, -state.day_pnl\n',
        "",
        ("owner_restart",),
    ),
    Mutant(
        "failed_run_sealed",
        "emp.engine.live",
        "            done = self._ended_in_order() and not self._engine.orders.open_orders()\n",
        "            done = True\n",
        ("owner_restart", "refuse", "disk_full"),
    ),
    Mutant(
        "unfinished_run_passed_over",
        "emp.app.wiring.unfinished",
        "    found = [run for run in found if not _sealed(run)]\n",
        "    found = []\n",
        _KILLS,
    ),
    Mutant(
        "account_not_locked",
        "emp.core.platform",
        "    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "    return\n",
        ("second_engine",),
    ),
    # time
    Mutant(
        "stall_not_looked_at_before_a_batch",
        "emp.engine.live",
        "        if self._note_stall():\n            return True\n"
        "        waiting = self._bus.peek(BATCH) if self._taps.room else None\n"
        "        if waiting is None:\n            return False\n"
        "        instrument, events = waiting\n"
        "        if self._bus.overdue(instrument):\n            return True\n",
        "        waiting = self._bus.peek(BATCH) if self._taps.room else None\n"
        "        if waiting is None:\n            return False\n"
        "        instrument, events = waiting\n",
        ("stop",),
    ),
    Mutant(
        "stall_not_looked_at_before_a_send",
        "emp.engine.live",
        "        if arrived is not None and self._clock.monotonic_ns() - arrived > LIMIT_MS * 1e6:\n"
        "            return True\n"
        "        return self._watchdog.blocked()\n",
        "        return False and arrived\n",
        ("slow_disk", "stop"),
    ),
    Mutant(
        "time_in_a_socket_not_counted",
        "emp.engine.live",
        "self._bus.publish(self._first_books.believed(rows), self._watchdog.lain_ns())",
        "self._bus.publish(self._first_books.believed(rows))",
        ("slow_disk", "slow_model", "stop"),
    ),
    Mutant(
        "first_book_believed",
        "emp.engine.live",
        "self._bus.publish(self._first_books.believed(rows), self._watchdog.lain_ns())",
        "self._bus.publish(rows, self._watchdog.lain_ns())",
        ("wild_start",),
    ),
    Mutant(
        "many_first_books_at_once_believed",
        "emp.engine.reconciliation.first_book",
        "        if _insist(far.rows, age):\n",
        "        if far.rows > FAR_ROWS:\n",
        ("wild_burst",),
    ),
    Mutant(
        "fills_contradict_no_book",
        "emp.access.fills",
        "        return not update.correction\n",
        "        return False\n",
        ("wrong_feed",),
    ),
    Mutant(
        "fills_contradict_the_first_book",
        "emp.access.fix.market",
        "names.index(instrument)",
        "0",
        ("wrong_feed",),
    ),
    # getting flat
    Mutant(
        "closing_without_pace",
        "emp.execution.pace",
        "        return passed(now_ns, self.tried_ns, pause_ns(self.refused))\n",
        "        return True\n",
        ("refuse_orders", "owner_flatten", "owner_kill"),
    ),
    Mutant(
        "closing_without_a_cap",
        "emp.execution.pace",
        "        if full and not passed(now_ns, self._tries[0], _MINUTE_NS):\n            return False\n"
        "        return passed(now_ns, self.tried_ns, pause_ns(self.refused))\n",
        "        return True\n",
        ("refuse_orders", "owner_flatten", "owner_kill"),
    ),
    Mutant(
        "closing_without_a_book",
        "emp.execution.flatten",
        "    if held and bid < ask:\n",
        "    if held:\n",
        ("kill_in_the_dark",),
    ),
    Mutant(
        "closing_order_on_its_way_forgotten",
        "emp.execution.flatten",
        "    return -side * max(0, abs(position) - on_their_way)\n",
        "    return -side * abs(position)\n",
        ("owner_flatten", "late_report", "silent_order"),
    ),
    # the session
    Mutant(
        "orders_not_asked_for_after_a_reconnect",
        "emp.access.fix.client",
        "            self._recovery.begin(anew=anew)\n",
        "            pass\n",
        ("away",),
    ),
    Mutant(
        "trade_link_down_not_told",
        "emp.engine.live",
        "                    self._degrade(TRADE_LINK, active=not state.up)\n",
        "                    pass\n",
        ("cut_server", "half_open", "refuse"),
    ),
    Mutant(
        "opens_before_positions_are_known",
        "emp.engine.reconciliation.agreement",
        "        if not up:\n            self._set_known(False)\n        elif back:\n",
        "        if back:\n",
        ("half_open", "network_stall", "venue_silent"),
    ),
    Mutant(
        "others_trades_valued_by_the_market",
        "emp.engine.reconciliation.audit",
        "await self._others.price(name, lots, self._agreed)",
        "0.0",
        ("half_open", "network_stall"),
    ),
    Mutant(
        "orders_not_counted_on_their_way",
        "emp.engine.driver",
        "            if not foreign:\n                self.engine.sent(command)\n",
        "",
        ("late_report",),
    ),
    Mutant(
        "loss_limit_closes_nothing",
        "emp.engine.engine",
        "            self.flattening.add(i)\n"
        "            output.commands += self.closing.commands(i, ts)\n"
        "            if reason in",
        '            self.desk.risk["halt_reason"][i] = Reason.HALTED\n            if reason in',
        ("owner_halt", "reject"),
    ),
    Mutant(
        "halt_lifts_loss_limits",
        "emp.engine.engine",
        '                if not self.desk.risk["halted"][i]:  # what was to be flat stays so\n'
        "                    self._halt(i, Reason.HALTED)\n",
        '                self.desk.account["day_start"][i] = self.desk.account["peak"][i] = -1e12\n'
        "                self._halt(i, Reason.HALTED)\n",
        ("owner_halt",),
    ),
    Mutant(
        "trade_taken_back_not_booked",
        "emp.execution.orders",
        "        if update.correction:\n            return self._correct(order, update)\n",
        "        if update.correction:\n            return Applied()\n",
        ("bust", "corrected_trade"),
    ),
    # the account, over all instruments
    Mutant(
        "account_may_lose_anything",
        "emp.engine.portfolio",
        'folio["max_loss"] = limits.max_daily_loss or NO_LIMIT',
        'folio["max_loss"] = NO_LIMIT',
        ("twice_row", "twice_report"),
    ),
    Mutant(
        "every_tick_worth_the_same",
        "emp.engine.portfolio",
        "one.tick * one.point_value, limits.rate_max_age_ns",
        "1.0, limits.rate_max_age_ns",
        ("twice_row", "twice_report"),
    ),
    Mutant(
        "kill_closes_the_first_instrument",
        "emp.engine.engine",
        "        for i in range(len(self.instruments)) if chosen is None else chosen:\n",
        "        for i in range(1):\n",
        ("owner_kill", "owner_flatten"),
    ),
    # what bars opening
    Mutant(
        "bar_not_lifted",
        "emp.engine.breakers",
        "            self._put(reason, False, why)\n",
        "            pass\n",
        ("refuse_orders", "silent_order"),
    ),
)
"""All of them."""
