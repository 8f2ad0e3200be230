mod architecture;
mod output;
