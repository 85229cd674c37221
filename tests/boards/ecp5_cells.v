// The two cells that boards/ecp5.py uses, as the family's documents describe them (FPGA-TN-02204 memory, FPGA-TN-02205
// DSP), in the modes it uses and no others. Ours, not the vendor's: Yosys has none.

module MULT18X18D (
    input [0:0] CLK0, input CE0, RST0, SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    input A0, A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11, A12, A13, A14, A15, A16, A17,
    input B0, B1, B2, B3, B4, B5, B6, B7, B8, B9, B10, B11, B12, B13, B14, B15, B16, B17,
    input C0, C1, C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12, C13, C14, C15, C16, C17,
    output P0, P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12, P13, P14, P15, P16, P17,
    output P18, P19, P20, P21, P22, P23, P24, P25, P26, P27, P28, P29, P30, P31, P32, P33, P34, P35
);
    parameter REG_INPUTA_CLK = "NONE", REG_INPUTA_CE = "CE0", REG_INPUTA_RST = "RST0";
    parameter REG_INPUTB_CLK = "NONE", REG_INPUTB_CE = "CE0", REG_INPUTB_RST = "RST0";
    parameter REG_PIPELINE_CLK = "NONE", REG_PIPELINE_CE = "CE0", REG_PIPELINE_RST = "RST0";
    parameter REG_OUTPUT_CLK = "NONE", REG_OUTPUT_CE = "CE0", REG_OUTPUT_RST = "RST0";
    parameter SOURCEB_MODE = "B_SHIFT", RESETMODE = "SYNC", GSR = "ENABLED";

    wire signed [17:0] a_in = {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
    wire signed [17:0] b_in = {B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
    reg signed [17:0] a_reg, b_reg;
    reg signed [35:0] pipeline, out;
    wire signed [17:0] a = REG_INPUTA_CLK == "CLK0" ? a_reg : a_in;
    wire signed [17:0] b = REG_INPUTB_CLK == "CLK0" ? b_reg : b_in;
    wire signed [35:0] product = a * b;  // SIGNEDA and SIGNEDB are 1
    wire signed [35:0] late = REG_PIPELINE_CLK == "CLK0" ? pipeline : product;
    always @(posedge CLK0[0]) if (CE0) begin
        a_reg <= a_in;
        b_reg <= b_in;
        pipeline <= product;
        out <= late;
    end
    assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15,
            P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = REG_OUTPUT_CLK == "CLK0" ? out : late;
endmodule

// Port A writes, port B reads. A word read in the clock of its write is undefined: here, all its bits are wrong.
module DP16KD (
    input CLKA, CEA, OCEA, WEA, RSTA, CSA0, CSA1, CSA2, CLKB, CEB, OCEB, WEB, RSTB, CSB0, CSB1, CSB2,
    input ADA0, ADA1, ADA2, ADA3, ADA4, ADA5, ADA6, ADA7, ADA8, ADA9, ADA10, ADA11, ADA12, ADA13,
    input ADB0, ADB1, ADB2, ADB3, ADB4, ADB5, ADB6, ADB7, ADB8, ADB9, ADB10, ADB11, ADB12, ADB13,
    input DIA0, DIA1, DIA2, DIA3, DIA4, DIA5, DIA6, DIA7, DIA8, DIA9, DIA10, DIA11, DIA12, DIA13, DIA14, DIA15, DIA16,
    input DIA17,
    input DIB0, DIB1, DIB2, DIB3, DIB4, DIB5, DIB6, DIB7, DIB8, DIB9, DIB10, DIB11, DIB12, DIB13, DIB14, DIB15, DIB16,
    input DIB17,
    output DOA0, DOA1, DOA2, DOA3, DOA4, DOA5, DOA6, DOA7, DOA8, DOA9, DOA10, DOA11, DOA12, DOA13, DOA14, DOA15, DOA16,
    output DOA17,
    output DOB0, DOB1, DOB2, DOB3, DOB4, DOB5, DOB6, DOB7, DOB8, DOB9, DOB10, DOB11, DOB12, DOB13, DOB14, DOB15, DOB16,
    output DOB17
);
    parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18, REGMODE_A = "NOREG", REGMODE_B = "NOREG", RESETMODE = "SYNC";
    parameter ASYNC_RESET_RELEASE = "SYNC", CSDECODE_A = "0b000", CSDECODE_B = "0b000", GSR = "ENABLED";
    parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL";

    reg [8:0] bytes [0:2047];
    integer k;
    initial for (k = 0; k < 2048; k = k + 1) bytes[k] = 0;
    wire [10:0] at = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3};
    wire [10:0] from = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3};
    wire [8:0] low = {DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
    wire [8:0] high = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9};
    wire [8:0] low_b = {DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0};
    wire [8:0] high_b = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9};
    wire whole = DATA_WIDTH_B == 36, wide = DATA_WIDTH_B == 18;
    wire collides = WEA & (whole ? at[10:2] == from[10:2] : wide ? at[10:1] == from[10:1] : at == from);
    wire [35:0] word = whole ? {bytes[{from[10:2], 2'd3}], bytes[{from[10:2], 2'd2}], bytes[{from[10:2], 2'd1}],
                                bytes[{from[10:2], 2'd0}]}
                     : wide ? {18'b0, bytes[{from[10:1], 1'b1}], bytes[{from[10:1], 1'b0}]} : {27'b0, bytes[from]};
    reg [35:0] latch, out;
    always @(posedge CLKA) if (CEA & WEA) begin
        if (DATA_WIDTH_A == 9) bytes[at] <= low;
        if (DATA_WIDTH_A == 18 & ADA0) bytes[{at[10:1], 1'b0}] <= low;
        if (DATA_WIDTH_A == 18 & ADA1) bytes[{at[10:1], 1'b1}] <= high;
        if (whole & ADA0) bytes[{at[10:2], 2'd0}] <= low;
        if (whole & ADA1) bytes[{at[10:2], 2'd1}] <= high;
        if (whole & ADA2) bytes[{at[10:2], 2'd2}] <= low_b;
        if (whole & ADA3) bytes[{at[10:2], 2'd3}] <= high_b;
    end
    always @(posedge CLKB) if (CEB & !WEB) begin
        latch <= collides ? ~word : word;
        if (OCEB) out <= latch;
    end
    // A word of 36 bits comes out at A and goes on at B.
    wire [35:0] shown = REGMODE_B == "OUTREG" ? out : latch;
    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2,
            DOA1, DOA0} = shown[17:0];
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
            DOB1, DOB0} = whole ? shown[35:18] : shown[17:0];
endmodule
