// A netlist behind the interface that verilator.cpp expects of a verilated chip.
#pragma once

#include <cstdint>
#include <memory>

class VerilatedContext {};

class Vtop {
public:
    explicit Vtop(VerilatedContext*);
    ~Vtop();
    void eval();

    uint8_t clk = 0, rst = 0, calc_clk = 0, calc_rst = 0, rx_valid = 0, rx_payload = 0, tx_ready = 0;
    uint8_t rx_ready = 0, tx_valid = 0, tx_payload = 0;

private:
    struct State;
    std::unique_ptr<State> state_;
    bool before_ = false, calc_before_ = false;
};
