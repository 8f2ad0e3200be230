mod architecture;
mod cli;
mod output;
