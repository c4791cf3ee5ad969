//! crossbeam-channel, between threads: its messages cannot leave their process.

use crossbeam_channel::{Receiver as Rx, Sender as Tx, bounded};

use crate::drive::wire::{Receiver, Sender, Shape, Wire};
use crate::stage::{Result, Stage};

pub(crate) struct Bounded(Vec<(Tx<u64>, Rx<u64>)>);

impl Wire for Bounded {
    type Sender<'a> = Tx<u64>;
    type Receiver<'a> = Rx<u64>;

    fn make(_: &Stage, shape: Shape) -> Result<Bounded> {
        Ok(Bounded((0..shape.lanes).map(|_| bounded(shape.capacity)).collect()))
    }

    fn sender(&self, lane: usize) -> Result<Tx<u64>> {
        Ok(self.0[lane].0.clone())
    }

    fn receiver(&self, lane: usize) -> Result<Rx<u64>> {
        Ok(self.0[lane].1.clone())
    }
}

impl Sender for Tx<u64> {
    #[inline]
    fn send(&mut self, number: u64) {
        Tx::send(self, number).expect("it is open");
    }
}

impl Receiver for Rx<u64> {
    #[inline]
    fn recv(&mut self) -> u64 {
        Rx::recv(self).expect("it is open")
    }
}
