// A verilated component with byte streams rx and tx, behind a C interface: whole buffers a call.
//
// The clock runs only inside bitline_run. A clock is two evaluations: inputs settle with clk low, the streams are
// sampled, then the edge. The design's inputs are `clk`, `rst`, `rx_valid`, `rx_payload`, `tx_ready`; with PUMP > 1 also
// `calc_clk`, which rises with `clk` and PUMP - 1 times more before the next one.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

#ifndef PUMP
#define PUMP 1
#endif

double sc_time_stamp() { return 0; }

namespace {

// Bytes waiting on one side: a vector with a read index, emptied when all of it has been read.
class Bytes {
public:
    size_t size() const { return bytes_.size() - read_; }
    uint8_t front() const { return bytes_[read_]; }
    void push(uint8_t byte) { bytes_.push_back(byte); }
    void push(const uint8_t* data, size_t count) { bytes_.insert(bytes_.end(), data, data + count); }
    void pop() {
        if (++read_ == bytes_.size()) clear();
    }
    size_t pull(uint8_t* data, size_t limit) {
        size_t count = size() < limit ? size() : limit;
        for (size_t k = 0; k < count; ++k) data[k] = bytes_[read_ + k];
        read_ += count;
        if (read_ == bytes_.size()) clear();
        return count;
    }
    void clear() {
        bytes_.clear();
        read_ = 0;
    }

private:
    std::vector<uint8_t> bytes_;
    size_t read_ = 0;
};

struct Device {
    std::unique_ptr<VerilatedContext> context{new VerilatedContext};
    std::unique_ptr<Vtop> top{new Vtop{context.get()}};
    Bytes in, out;
    uint64_t cycles = 0;
    uint64_t rx_pace = 1, tx_pace = 1;    // least clocks from one byte to the next
    uint64_t rx_from = 0, tx_from = 0;    // first clock at which the next byte may pass

    Device() {
        top->clk = 0;
#if PUMP > 1
        top->calc_clk = 0;
        top->calc_rst = 0;
#endif
        top->rst = 0;
        top->rx_valid = 0;
        top->rx_payload = 0;
        top->tx_ready = 0;
        top->eval();
    }

    void edge() {
        top->clk = 1;
#if PUMP > 1
        for (int k = 1; k < PUMP; ++k) {
            top->calc_clk = 1;
            top->eval();
            top->calc_clk = 0;
            top->eval();
        }
        top->calc_clk = 1;
#endif
        top->eval();
        top->clk = 0;
#if PUMP > 1
        top->calc_clk = 0;
#endif
        ++cycles;
    }

    void reset() {
        top->rst = 1;
        top->rx_valid = 0;
        top->tx_ready = 0;
        for (int k = 0; k < 4; ++k) {
            top->eval();
            edge();
        }
        top->rst = 0;
        top->eval();
        in.clear();
        out.clear();
        rx_from = tx_from = cycles;
    }

    // Run one clock; tell whether a byte passed.
    bool clock() {
        top->rx_valid = in.size() && cycles >= rx_from;
        if (top->rx_valid) top->rx_payload = in.front();
        top->tx_ready = cycles >= tx_from;
        top->eval();
        bool moved = false;
        if (top->rx_valid && top->rx_ready) {
            in.pop();
            rx_from = cycles + rx_pace;
            moved = true;
        }
        if (top->tx_valid && top->tx_ready) {
            out.push(top->tx_payload);
            tx_from = cycles + tx_pace;
            moved = true;
        }
        edge();
        return moved;
    }

    uint64_t run(uint64_t limit, uint64_t wanted, uint64_t quiet) {
        uint64_t silent = 0, count = 0;
        while (count < limit && (!wanted || out.size() < wanted) && (!quiet || silent < quiet)) {
            silent = clock() ? 0 : silent + 1;
            ++count;
        }
        return count;
    }
};

}  // namespace

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

EXPORT Device* bitline_open() {
    try {
        return new Device;
    } catch (...) {
        return nullptr;
    }
}
EXPORT void bitline_close(Device* device) { delete device; }
EXPORT void bitline_reset(Device* device) { device->reset(); }
EXPORT void bitline_pace(Device* device, uint64_t rx, uint64_t tx) {
    device->rx_pace = rx;
    device->tx_pace = tx;
}
EXPORT void bitline_push(Device* device, const uint8_t* data, size_t count) { device->in.push(data, count); }
EXPORT size_t bitline_pull(Device* device, uint8_t* data, size_t limit) { return device->out.pull(data, limit); }
EXPORT size_t bitline_pending(Device* device) { return device->in.size(); }
EXPORT size_t bitline_available(Device* device) { return device->out.size(); }
EXPORT uint64_t bitline_run(Device* device, uint64_t limit, uint64_t wanted, uint64_t quiet) {
    return device->run(limit, wanted, quiet);
}
EXPORT uint64_t bitline_cycles(Device* device) { return device->cycles; }
