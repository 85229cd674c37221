// The words of a twin of SDRAM (boards/sdram.py): a word is there a clock after its place, the old one if it is written
// in that clock. The first ones are not zero at power up.
module sdram_words #(parameter ADDRESS_BITS = 1) (
    input clk, input [ADDRESS_BITS-1:0] read, output reg [15:0] word,
    input [ADDRESS_BITS-1:0] write, input [15:0] data, input [1:0] enable);
  reg [15:0] words [0:(1 << ADDRESS_BITS) - 1];
  initial for (int k = 0; k < 4096 && k < (1 << ADDRESS_BITS); k = k + 1) words[k] = 16'h5eed;
  always @(posedge clk) begin
    word <= words[read];
    if (enable[0]) words[write][7:0] <= data[7:0];
    if (enable[1]) words[write][15:8] <= data[15:8];
  end
endmodule
