// A netlist of an ECP5, cell by cell: boards/netlist.py writes its cells as the tables in netlist.inc. Cells work as the
// family's documents describe them (FPGA-TN-02204 memory, FPGA-TN-02205 DSP), in the modes that boards/netlist.py lets
// pass. A pin is the place of its bit in an array; places 0 and 1 are the constants.

#include <cstdint>
#include <cstring>

#include "Vtop.h"

namespace {

// A block RAM: 2,048 bytes of 9 bits. Port 0 (A) is 36 bits wide only where it writes, port 1 (B) only where it reads.
// A bit that one port reads in the clock in which the other writes it is undefined: here it is wrong.
struct Port {
    int width;
    bool through;    // shows what it writes; else what was there
    bool silent;     // shows nothing new while it writes
    bool registered;
};

struct Asked {
    bool ce, we, oce;
    uint32_t at;
    uint64_t data;
};

struct Ram {
    uint16_t bytes[2048];
    uint64_t latch[2], out[2];
};

uint32_t first(const Port& port, uint32_t at) {
    return port.width == 36 ? at >> 5 << 2 : port.width == 18 ? at >> 4 << 1 : at >> 3;
}

uint64_t written(const Port& port, const Asked& asked) {
    if (!asked.ce || !asked.we) return 0;
    uint64_t mask = 0;
    if (port.width >= 18) {
        for (int k = 0; k < port.width / 9; ++k) mask |= (asked.at >> k & 1 ? 0x1FFull : 0) << 9 * k;
        return mask;
    }
    return ((1ull << port.width) - 1) << (port.width == 9 ? 0 : asked.at & 7);
}

void clock(Ram& ram, const Port (&ports)[2], const Asked (&asked)[2], uint64_t (&shown)[2]) {
    uint32_t from[2];
    uint64_t mask[2], before[2], after[2];
    for (int p = 0; p < 2; ++p) {
        from[p] = first(ports[p], asked[p].at);
        mask[p] = written(ports[p], asked[p]);
        before[p] = 0;
        for (int k = 0; k < 4; ++k) before[p] |= (uint64_t)ram.bytes[(from[p] + k) & 2047] << 9 * k;
        uint64_t data = ports[p].width < 9 ? asked[p].data << (asked[p].at & 7) : asked[p].data;
        after[p] = (before[p] & ~mask[p]) | (data & mask[p]);
    }
    for (int p = 0; p < 2; ++p) {
        if (!asked[p].ce) continue;
        if (asked[p].oce) ram.out[p] = ram.latch[p];
        if (asked[p].we && ports[p].silent) continue;
        uint64_t word = ports[p].through ? after[p] : before[p];
        for (int i = 0; i < 4; ++i)
            for (int j = 0; j < 4; ++j)
                if (((from[p] + i) & 2047) == ((from[1 - p] + j) & 2047))
                    word ^= (mask[1 - p] >> 9 * j & 0x1FF) << 9 * i;
        if (ports[p].width < 9) word >>= asked[p].at & 7;
        ram.latch[p] = word & ((1ull << ports[p].width) - 1);
    }
    for (int p = 0; p < 2; ++p) {
        for (int k = 0; k < 4; ++k)
            if (mask[p] >> 9 * k & 0x1FF) ram.bytes[(from[p] + k) & 2047] = after[p] >> 9 * k & 0x1FF;
        shown[p] = ports[p].registered ? ram.out[p] : ram.latch[p];
    }
}

uint64_t product(uint32_t a, uint32_t b, bool signed_a, bool signed_b) {
    int64_t x = signed_a && a >> 17 ? (int64_t)a - (1 << 18) : a, y = signed_b && b >> 17 ? (int64_t)b - (1 << 18) : b;
    return (uint64_t)(x * y) & ((1ull << 36) - 1);
}

// All four registers in use.
struct Multiplier {
    uint32_t a, b;
    uint64_t pipeline, out;
};

uint64_t clock(Multiplier& cell, uint32_t a, uint32_t b, bool signed_a, bool signed_b) {
    cell.out = cell.pipeline;
    cell.pipeline = product(cell.a, cell.b, signed_a, signed_b);
    cell.a = a;
    cell.b = b;
    return cell.out;
}

uint64_t gather(const uint8_t* n, const int* places, int count) {
    uint64_t word = 0;
    for (int k = 0; k < count; ++k) word |= (uint64_t)n[places[k]] << k;
    return word;
}

void spread(uint8_t* n, const int* places, uint64_t word, int count) {
    for (int k = 0; k < count; ++k) n[places[k]] = word >> k & 1;
}

// Five inputs: a LUT, a multiplexer, or one output of half a carry cell.
struct Lut {
    uint32_t init;
    int in[5], out;
};

struct FlipFlop {
    int d, enable, reset;
    bool set, enable_low, reset_low;
};

struct SmallRam {
    int enable;
    bool enable_low;
    int to[4], data[4], from[4], out[4];
};

struct MultiplierCell {
    int a[18], b[18];
    bool signed_a, signed_b;
    int out[36];
};

struct BlockRam {
    Port ports[2];
    int ce[2], we[2], oce[2], at[2][14], data[2][36], out[2][36];
};

// LUTs up to here, then one LUT RAM (its read), or one multiplier without registers.
struct Step {
    int luts;
    int small_ram, multiplier;
};

struct Ports {
    int rx_valid[1], rx_payload[8], tx_ready[1], rx_ready[1], tx_valid[1], tx_payload[8];
};

}  // namespace

#include "netlist.inc"

struct Vtop::State {
    uint8_t n[PLACES] = {0, 1};
    uint8_t next[FLIP_FLOPS + 1];
    uint8_t small[SMALL_RAMS + 1][16];
    Multiplier pipelines[MULTIPLIERS + 1] = {};
    Ram rams[BLOCK_RAMS + 1] = {};
    uint64_t shown[BLOCK_RAMS + 1][2] = {};
    uint64_t products[MULTIPLIERS + 1] = {};

    State() {
        for (int k = 0; k < FLIP_FLOPS; ++k) n[FIRST + k] = flip_flops[k].set;
        std::memcpy(small, small_initial, sizeof small);
        for (auto& one : block_initial) rams[one[0]].bytes[one[1]] = one[2];
    }

    // The rows of a table whose clock rises: the first `chips` of them are on the chip's.
    struct Rising {
        bool chip, calculation;
        int from(int chips) const { return chip ? 0 : chips; }
        int to(int chips, int all) const { return calculation ? all : chips; }
    };

    // What has a clock that rises looks at all bits first, and changes them afterwards.
    void tick(Rising rising) {
        const int flip_flop = rising.from(CHIPS_FLIP_FLOPS), flip_flops_end = rising.to(CHIPS_FLIP_FLOPS, FLIP_FLOPS);
        const int small_ram = rising.from(CHIPS_SMALL_RAMS), small_rams_end = rising.to(CHIPS_SMALL_RAMS, SMALL_RAMS);
        const int multiplier = rising.from(CHIPS_REGISTERED), multipliers_end = rising.to(CHIPS_REGISTERED, REGISTERED);
        const int block_ram = rising.from(CHIPS_BLOCK_RAMS), block_rams_end = rising.to(CHIPS_BLOCK_RAMS, BLOCK_RAMS);
        for (int k = flip_flop; k < flip_flops_end; ++k) {
            const FlipFlop& cell = flip_flops[k];
            next[k] = n[cell.reset] ^ cell.reset_low ? cell.set
                      : n[cell.enable] ^ cell.enable_low ? n[cell.d] : n[FIRST + k];
        }
        for (int k = small_ram; k < small_rams_end; ++k) {
            const SmallRam& cell = small_rams[k];
            if (n[cell.enable] ^ cell.enable_low) small[k][gather(n, cell.to, 4)] = gather(n, cell.data, 4);
        }
        for (int k = multiplier; k < multipliers_end; ++k) {
            const MultiplierCell& cell = multipliers[k];
            products[k] = clock(pipelines[k], gather(n, cell.a, 18), gather(n, cell.b, 18), cell.signed_a,
                                cell.signed_b);
        }
        for (int k = block_ram; k < block_rams_end; ++k) {
            const BlockRam& cell = block_rams[k];
            Asked asked[2];
            for (int p = 0; p < 2; ++p)
                asked[p] = {n[cell.ce[p]] != 0, n[cell.we[p]] != 0, n[cell.oce[p]] != 0,
                            (uint32_t)gather(n, cell.at[p], 14), gather(n, cell.data[p], 36)};
            clock(rams[k], cell.ports, asked, shown[k]);
        }
        std::memcpy(n + FIRST + flip_flop, next + flip_flop, flip_flops_end - flip_flop);
        for (int k = multiplier; k < multipliers_end; ++k) spread(n, multipliers[k].out, products[k], 36);
        for (int k = block_ram; k < block_rams_end; ++k)
            for (int p = 0; p < 2; ++p) spread(n, block_rams[k].out[p], shown[k][p], 36);
    }

    void settle() {
        int at = 0;
        for (const Step& step : steps) {
            for (; at < step.luts; ++at) {
                const Lut& lut = luts[at];
                uint32_t index = n[lut.in[0]] | n[lut.in[1]] << 1 | n[lut.in[2]] << 2 | n[lut.in[3]] << 3
                                 | n[lut.in[4]] << 4;
                n[lut.out] = lut.init >> index & 1;
            }
            if (step.small_ram >= 0) {
                const SmallRam& cell = small_rams[step.small_ram];
                spread(n, cell.out, small[step.small_ram][gather(n, cell.from, 4)], 4);
            }
            if (step.multiplier >= 0) {
                const MultiplierCell& cell = multipliers[step.multiplier];
                spread(n, cell.out, product(gather(n, cell.a, 18), gather(n, cell.b, 18), cell.signed_a,
                                            cell.signed_b), 36);
            }
        }
    }
};

Vtop::Vtop(VerilatedContext*) : state_(new State) {}
Vtop::~Vtop() = default;

// Outputs are those of the last call in which no clock rose: who drives the clocks looks at them with `clk` low.
void Vtop::eval() {
    State& s = *state_;
    State::Rising rising{clk && !before_, calc_clk && !calc_before_};
    before_ = clk;
    calc_before_ = calc_clk;
    if (rising.chip || rising.calculation) {
        s.tick(rising);
        return;
    }
    spread(s.n, ports.rx_valid, rx_valid, 1);
    spread(s.n, ports.rx_payload, rx_payload, 8);
    spread(s.n, ports.tx_ready, tx_ready, 1);
    s.settle();
    rx_ready = gather(s.n, ports.rx_ready, 1);
    tx_valid = gather(s.n, ports.tx_valid, 1);
    tx_payload = gather(s.n, ports.tx_payload, 8);
}
