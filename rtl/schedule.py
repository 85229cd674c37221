"""The order of work of an engine: which vector is next, its folds, its columns.

The loader takes a complete vector of any context, or a verify read, and loads one fold of it into a bank of the
engine's lanes while folds before it still wait or are being read; the issuer reads fold after fold, column by column.
So the engine idles between two passes only if the last few of them together have fewer columns than loading takes,
`lanes / W` + 6 clocks each.

Every vector gets a ticket from the loader. What later stages need to know of it is noted under its ticket, and the
ticket travels with each column.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import bits_for, ceil_log2

from rtl.context import ContextLookup, context_layout
from rtl.divide import divide, divide_up
from rtl.engine import BANKS, Issue, Load
from rtl.mesh import header_layout
from rtl.params import ACTIVATION_BITS, EVENT_BITS, TIME_BITS, Geometry, Purpose, probe_place
from rtl.params.formats import ADC_GAIN_BITS, PLACE_BITS
from rtl.queue import Queue
from rtl.read import ReadRequest

__all__ = ["TICKET_BITS", "Issuer", "Loader", "adc_note_layout", "noise_note_layout", "note_layout",
           "output_note_layout", "pass_layout", "tag_layout"]

TICKET_BITS = 3
"""Eight vectors between their first load and their last partial sum."""

noise_note_layout = data.StructLayout({
    "tile": unsigned(16), "purpose": unsigned(8), "row": unsigned(PLACE_BITS), "event": unsigned(EVENT_BITS)})
"""What the hash needs to know of a message, besides the column; its position takes the place of a row."""

adc_note_layout = data.StructLayout({"gain": unsigned(ADC_GAIN_BITS), "offset": signed(32), "one_row": 1})
"""Range of a vector's conversions; `one_row`: their noise is that of a verify read."""

output_note_layout = data.StructLayout({
    "route": unsigned(6), "event": unsigned(EVENT_BITS), "time": unsigned(TIME_BITS)})

note_layout = data.StructLayout({
    "valid": 1, "ticket": TICKET_BITS,
    "noise": noise_note_layout, "adc": adc_note_layout, "output": output_note_layout})
"""Told once a vector, before its first column."""


def tag_layout(geometry: Geometry) -> data.StructLayout:
    """Return the layout of what travels with a column: where it is in its pass, and its pass in its vector."""
    return data.StructLayout({
        "ticket": TICKET_BITS,
        "column": unsigned(bits_for(geometry.columns - 1)),
        "constant": unsigned(ceil_log2(geometry.column_words)),  # index of the column's constants
        "first_fold": 1, "last_fold": 1,
        "first": 1, "last": 1,  # column of the pass
        "verify": 1,
    })


def flits_bits(geometry: Geometry) -> int:
    """Return the bits of the number of flits of one message."""
    return bits_for(1 - (-geometry.columns // geometry.transport))


def pass_layout(geometry: Geometry) -> data.StructLayout:
    """Return the layout of one pass over the columns, ready to be issued; its message takes `flits` flits."""
    return data.StructLayout({
        "ticket": TICKET_BITS,
        "address": unsigned(ceil_log2(geometry.net_places)),
        "constant": unsigned(ceil_log2(geometry.column_words)),
        "columns": unsigned(11),
        "flits": unsigned(flits_bits(geometry)),
        "bank": range(BANKS),
        "first_fold": 1, "last_fold": 1,
        "verify": 1,
    })


class Loader(wiring.Component):
    """Choose vectors, the oldest first, load their folds, announce them, and keep each context's target time.

    Parameters
    ----------
    geometry : Geometry
    apart : int
        Fewest clocks between the last words of two vectors whose norm is wanted.

    Members
    -------
    ready, begun, context, header, address, word, release
        To the input buffer.
    lookup : Out(ContextLookup)
    verify_gain, verify_offset : In
    read : In(stream of ReadRequest)
    hold : In(1)
        Choose no inference vector.
    stop : In(1)
        Choose nothing.
    finished : In(1)
        A ticket comes back.
    idle : Out(1)
        Nothing is chosen and all tickets are back.
    load : Out(Load)
        To the engine.
    normed, first, last : Out(1)
        `load` is a word of a vector whose norm is wanted (inference, or a dense read), its first, its last; `ticket`
        is its ticket.
    chosen : Out(1)
        One more inference vector.
    note : Out(note_layout)
    o : Out(stream of pass_layout)
    """

    def __init__(self, *, geometry: Geometry, apart: int):
        self.geometry = geometry
        self.apart = apart
        g = geometry
        super().__init__({
            "ready": In(g.contexts),
            "begun": In(g.contexts),
            "context": Out(bits_for(g.contexts - 1)),
            "header": In(header_layout),
            "address": Out(bits_for(g.row_words - 1)),
            "word": In(data.ArrayLayout(unsigned(ACTIVATION_BITS), g.transport)),
            "release": Out(1),
            "lookup": Out(ContextLookup()),
            "verify_gain": In(ADC_GAIN_BITS),
            "verify_offset": In(signed(32)),
            "read": In(stream.Signature(ReadRequest)),
            "hold": In(1),
            "stop": In(1),
            "finished": In(1),
            "idle": Out(1),
            "load": Out(Load(g)),
            "normed": Out(1),
            "first": Out(1),
            "last": Out(1),
            "ticket": Out(TICKET_BITS),
            "chosen": Out(1),
            "note": Out(note_layout),
            "o": Out(stream.Signature(pass_layout(g))),
        })

    def elaborate(self, platform):
        m = Module()
        g = self.geometry

        # The vector that is being loaded.
        context, ticket, verify = (Signal.like(value, name=name) for name, value in (
            ("chosen_context", self.context), ("chosen_ticket", self.ticket), ("verify", self.hold)))
        request = Signal(ReadRequest, reset_less=True)
        record = Signal(context_layout, reset_less=True)
        header = Signal(header_layout, reset_less=True)
        m.d.comb += [self.context.eq(context), self.lookup.index.eq(context)]

        # How far it is: `word` is the first word of this fold, `left` the words from there on.
        word, group = Signal(range(g.row_words + 1), reset_less=True), Signal(range(g.lane_words), reset_less=True)
        left = Signal(range(2048), reset_less=True)
        address = Signal(ceil_log2(g.net_places), reset_less=True)
        first_fold, last_fold = Signal(reset_less=True), Signal()
        one_row = Signal()
        m.d.comb += [one_row.eq(verify & ~request.drive.dense), last_fold.eq(one_row | (left <= g.lane_words))]

        tickets = Signal(range((1 << TICKET_BITS) + 1), init=1 << TICKET_BITS)
        returned, taken = self.finished, Signal()
        m.d.sync += tickets.eq(tickets + returned - taken)

        oldest = self._oldest(m)
        done_time = self._times(m, context, header, record)
        flits = Signal(flits_bits(g), reset_less=True)
        ticks, verify_range = request.drive.ticks, Signal()
        place = probe_place(request.row, dense=request.drive.dense, inference_range=request.drive.inference_range,
                            negative=ticks < 0, idle=ticks == 0)
        m.d.comb += [
            verify_range.eq(verify & ~request.drive.inference_range),
            self.note.ticket.eq(ticket),
            self.note.noise.tile.eq(record.tile),
            self.note.noise.purpose.eq(Mux(verify, request.purpose, Purpose.READ)),
            self.note.noise.row.eq(Mux(verify, place, header.position)),
            self.note.noise.event.eq(Mux(verify, request.event, header.event)),
            self.note.adc.gain.eq(Mux(verify_range, self.verify_gain, record.adc_gain)),
            self.note.adc.offset.eq(Mux(verify_range, self.verify_offset, record.adc_offset)),
            self.note.adc.one_row.eq(one_row),
            self.note.output.route.eq(record.route),
            self.note.output.event.eq(header.event),
            self.note.output.time.eq(done_time),
        ]

        next_pass, bank = Signal(pass_layout(g)), Signal(range(BANKS))
        announce = Signal()
        m.d.comb += [
            next_pass.ticket.eq(ticket),
            next_pass.address.eq(address),
            next_pass.constant.eq(record.column_base),
            next_pass.columns.eq(record.columns),
            next_pass.bank.eq(bank),
            next_pass.flits.eq(flits),
            next_pass.first_fold.eq(first_fold),
            next_pass.last_fold.eq(last_fold),
            next_pass.verify.eq(verify),
        ]
        # A bank is loaded while all the others, one of them in use, may still be read. `bank` is the next one.
        waiting, free = Signal(range(BANKS)), Signal()
        m.submodules.passes = passes = Queue(shape=pass_layout(g), depth=BANKS)
        connect(m, passes.o, flipped(self.o))
        m.d.comb += [passes.i.valid.eq(announce), passes.i.payload.eq(next_pass), free.eq(waiting < BANKS - 1)]
        m.d.sync += waiting.eq(waiting + announce - (self.o.valid & self.o.ready))

        loading = Signal()
        since = Signal(range(self.apart))  # counts down from the last word that the norm took
        last_word, normed = Signal(), Signal()
        m.d.comb += [
            last_word.eq(one_row | (group == g.lane_words - 1) | (group + 1 == left)),
            normed.eq(last_fold & last_word & ~one_row),
        ]
        with m.If(since != 0):
            m.d.sync += since.eq(since - 1)
        with m.FSM() as fsm:
            with m.State("Choose"):
                m.d.sync += [first_fold.eq(1), word.eq(0), group.eq(0)]
                with m.If((tickets != 0) & ~self.stop):
                    with m.If(self.read.valid):
                        m.d.comb += [self.read.ready.eq(1), taken.eq(1)]
                        m.d.sync += [verify.eq(1), request.eq(self.read.payload), context.eq(self.read.payload.context)]
                        m.next = "Look up"
                    with m.Elif(self.ready.any() & ~self.hold):
                        m.d.comb += [self.chosen.eq(1), taken.eq(1)]
                        m.d.sync += [verify.eq(0), context.eq(oldest)]
                        m.next = "Look up"

            with m.State("Look up"):
                m.next = "Take over"

            with m.State("Take over"):
                m.d.sync += [record.eq(self.lookup.record), header.eq(self.header)]
                m.next = "Prepare"

            with m.State("Prepare"):
                m.d.sync += [
                    address.eq(record.net_base),
                    left.eq(divide_up(record.rows, g.transport)),
                    flits.eq(divide_up(record.columns, g.transport) + 1),
                ]
                with m.If(one_row):
                    m.d.sync += left.eq(divide(request.row, g.transport))
                m.next = "Note"

            with m.State("Note"):
                m.d.comb += self.note.valid.eq(1)
                m.next = "Load"
                with m.If(one_row):
                    m.next = "Seek"

            with m.State("Seek"):  # the fold that holds the row
                with m.If(left >= g.lane_words):
                    m.d.sync += [left.eq(left - g.lane_words), address.eq(address + record.columns)]
                with m.Else():
                    m.d.sync += group.eq(left)
                    m.next = "Load"

            with m.State("Load"):
                with m.If(free & ~(normed & (since != 0))):
                    m.d.comb += loading.eq(1)
                    m.d.sync += group.eq(group + 1)
                    with m.If(normed):
                        m.d.sync += since.eq(self.apart - 1)
                    with m.If(last_word):
                        m.d.comb += announce.eq(1)
                        m.d.sync += [group.eq(0), bank.eq(bank + 1)]
                        with m.If(last_fold):
                            m.d.comb += self.release.eq(~verify)
                            m.d.sync += ticket.eq(ticket + 1)
                            m.next = "Choose"
                        with m.Else():
                            m.d.sync += [
                                first_fold.eq(0),
                                word.eq(word + g.lane_words),
                                left.eq(left - g.lane_words),
                                address.eq(address + record.columns),
                            ]

            m.d.comb += self.idle.eq(fsm.ongoing("Choose") & (tickets == 1 << TICKET_BITS))

        self._load(m, loading, ticket, verify, request, record, word, group, bank, left, first_fold, normed)
        return m

    def _oldest(self, m):
        """Return the ready context that is chosen, and note it when an inference vector is.

        Every context has its turn before one has the next: so a vector's last tile does not wait for the first tiles
        of the vector behind it, and leaves as early as it can. Of those whose turn it is, the highest number is the
        farthest in the network.
        """
        served, waiting = Signal(self.geometry.contexts), Signal(self.geometry.contexts)
        chosen = Signal.like(self.context)
        m.d.comb += waiting.eq(Mux((self.ready & ~served).any(), self.ready & ~served, self.ready))
        for k in range(self.geometry.contexts):
            with m.If(waiting[k]):
                m.d.comb += chosen.eq(k)
        with m.If(self.chosen):
            # Nobody was left whose turn it was: the turns begin again.
            m.d.sync += served.eq(Mux((self.ready & ~served).any(), served, 0) | 1 << chosen)
        return chosen

    def _times(self, m, context, header, record):
        """Return max(time, free) + latency of the context, two clocks after the record; it is free again then.

        A context that has just begun is free at 0.
        """
        used = Signal(self.geometry.contexts)
        m.submodules.free = free = memory.Memory(
            shape=unsigned(TIME_BITS), depth=1 << ceil_log2(self.geometry.contexts), init=[])
        read, write = free.read_port(), free.write_port()
        start = Signal(TIME_BITS, reset_less=True)
        done = Signal(TIME_BITS)
        waits = used.bit_select(context, 1) & (read.data > header.time)
        m.d.sync += [
            start.eq(Mux(waits, read.data, header.time)),
            used.eq((used | Mux(write.en, 1 << context, 0)) & ~self.begun),
        ]
        m.d.comb += [
            read.addr.eq(context),
            read.en.eq(1),
            done.eq(start + record.latency),
            write.addr.eq(context),
            write.data.eq(done),
            write.en.eq(self.note.valid & (self.note.noise.purpose == Purpose.READ)),
        ]
        return done

    def _load(self, m, loading, ticket, verify, request, record, word, group, bank, left, first_fold, normed):
        """Follow the buffer's word, a clock after its address, or send what a read drives."""
        g, drive = self.geometry, request.drive
        m.d.comb += self.address.eq(word + group)
        row_word = divide(request.row, g.transport)
        element = (request.row - row_word * g.transport)[:ceil_log2(g.transport)]

        read, now_group, now_bank = Signal(), Signal.like(group, reset_less=True), Signal.like(bank, reset_less=True)
        zero, hot = Signal(reset_less=True), Signal(g.transport, reset_less=True)
        dense, driven, negative = Signal(), Signal(g.transport), Signal(g.transport)
        counted, first, last, begins = (Signal(name=f"is_{name}", reset_less=True)
                                        for name in ("normed", "first", "last", "beginning"))
        at = Signal(TICKET_BITS, reset_less=True)
        m.d.sync += [
            read.eq(loading),
            now_group.eq(group),
            now_bank.eq(bank),
            zero.eq((verify & ~drive.dense) | (group >= left)),
            [hot[k].eq(verify & ~drive.dense & (element == k)) for k in range(g.transport)],
            begins.eq((group == 0) | (verify & ~drive.dense)),
            dense.eq(verify & drive.dense),
            counted.eq(loading & ~(verify & ~drive.dense)),
            first.eq(first_fold & (group == 0)),
            last.eq(normed),
            at.eq(ticket),
        ]

        m.d.sync += [
            self.load.valid.eq(read),
            self.load.first.eq(begins),
            self.load.group.eq(now_group),
            self.load.bank.eq(now_bank),
            self.normed.eq(counted),
            self.first.eq(first),
            self.last.eq(last),
            self.ticket.eq(at),
        ]
        for k in range(g.transport):
            row = self.address * g.transport + k
            m.d.sync += [driven[k].eq(row < record.rows), negative[k].eq((row & request.row).xor())]
            with m.If(zero):
                m.d.sync += self.load.word[k].eq(Mux(hot[k], drive.ticks, 0))
            with m.Elif(dense):
                m.d.sync += self.load.word[k].eq(Mux(driven[k], Mux(negative[k], -drive.ticks, drive.ticks), 0))
            with m.Else():
                m.d.sync += self.load.word[k].eq(self.word[k].as_signed())


class Issuer(wiring.Component):
    """Read the columns of each pass, one a clock, without a pause between two passes that are ready.

    The last pass of an inference vector waits until its whole message has room: what is issued is never stopped.

    Members
    -------
    i : In(stream of pass_layout)
    room : In
        Flits that the output can still take.
    reserve : Out
        Flits taken off it this clock.
    issue : Out(Issue), tag : Out(tag_layout)
        To the engine.
    """

    def __init__(self, *, geometry: Geometry, room_bits: int):
        self.geometry = geometry
        super().__init__({
            "i": In(stream.Signature(pass_layout(geometry))),
            "room": In(room_bits),
            "reserve": Out(flits_bits(geometry)),
            "issue": Out(Issue(geometry)),
            "tag": Out(tag_layout(geometry)),
        })

    def elaborate(self, platform):
        m = Module()
        running = Signal()
        now = Signal(pass_layout(self.geometry), reset_less=True)  # `columns` counts down, the rest is of this column
        column = Signal(range(self.geometry.columns), reset_less=True)
        sends = Signal()
        m.d.comb += [
            sends.eq(self.i.payload.last_fold & ~self.i.payload.verify),
            self.i.ready.eq((~running | (now.columns == 1)) & (~sends | (self.room >= self.i.payload.flits))),
        ]
        with m.If(running):
            m.d.sync += [
                column.eq(column + 1),
                now.address.eq(now.address + 1),
                now.constant.eq(now.constant + 1),
                now.columns.eq(now.columns - 1),
                running.eq(now.columns != 1),
            ]
        with m.If(self.i.valid & self.i.ready):
            m.d.comb += self.reserve.eq(Mux(sends, self.i.payload.flits, 0))
            m.d.sync += [running.eq(1), now.eq(self.i.payload), column.eq(0)]

        m.d.comb += [
            self.issue.valid.eq(running),
            self.issue.address.eq(now.address),
            self.issue.bank.eq(now.bank),
            self.tag.ticket.eq(now.ticket),
            self.tag.column.eq(column),
            self.tag.constant.eq(now.constant),
            Cat(self.tag.first_fold, self.tag.last_fold).eq(Cat(now.first_fold, now.last_fold)),
            self.tag.first.eq(column == 0),
            self.tag.last.eq(now.columns == 1),
            self.tag.verify.eq(now.verify),
        ]
        return m
