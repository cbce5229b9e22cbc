//! Filters: programs of classic BPF, as libpcap compiles what people write. Checked once, then run on any bytes.
//!
//! A program comes from whoever may use the admin socket, and runs on a worker. So it is read into operations that cannot
//! go wrong: jumps lead forward and stay inside, which bounds a run by the program's length; scratch memory is addressed by
//! constants that were checked; what reads beyond the packet ends the run, and the packet is not matched. Semantics are
//! those of libpcap's `bpf_filter`.

mod read;
#[cfg(test)]
mod tests;

use arrayvec::ArrayVec;

pub use read::Invalid;

/// Instructions of a program at most (`BPF_MAXINSNS` of the kernel).
pub const LONGEST: usize = 4096;
/// Words of scratch memory (`BPF_MEMWORDS`).
const MEMORY: usize = 16;

/// An instruction as libpcap and the kernel have it (`struct bpf_insn`, `struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    /// Instructions to skip where a condition holds, and where it does not.
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// A program that has been checked.
#[derive(Clone, Debug)]
pub struct Program {
    operations: Box<[Operation]>,
}

/// The right side of an operation of two.
#[derive(Clone, Copy, Debug)]
enum Operand {
    Constant(u32),
    X,
}

/// Bytes that a load reads.
#[derive(Clone, Copy, Debug)]
enum Width {
    Byte,
    Half,
    Word,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Constant(u32),
    /// Of the packet, at this offset.
    At(u32, Width),
    /// The same, so far behind X.
    BehindX(u32, Width),
    /// Length of the packet.
    Len,
    Memory(usize),
    /// Four times the low half of a byte of the packet: the length of an IPv4 header.
    HeaderLen(u32),
}

#[derive(Clone, Copy, Debug)]
enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
}

#[derive(Clone, Copy, Debug)]
enum Condition {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

/// Jumps are to the number of an operation, behind the one that jumps.
#[derive(Clone, Copy, Debug)]
enum Operation {
    LoadA(Source),
    LoadX(Source),
    StoreA(usize),
    StoreX(usize),
    Compute(Arithmetic, Operand),
    Negate,
    Jump(usize),
    Branch { condition: Condition, operand: Operand, then: usize, otherwise: usize },
    ReturnConstant(u32),
    ReturnA,
    AToX,
    XToA,
}

/// A packet as a program sees it: what a tunnel carries may lack an Ethernet header, which then lies elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Bytes before the others, mostly none.
    pub front: &'a [u8],
    pub rest: &'a [u8],
}

impl Packet<'_> {
    pub fn len(&self) -> usize {
        self.front.len() + self.rest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn byte(&self, at: usize) -> Option<u8> {
        match at.checked_sub(self.front.len()) {
            None => self.front.get(at).copied(),
            Some(at) => self.rest.get(at).copied(),
        }
    }

    fn read(&self, at: u64, width: Width) -> Option<u32> {
        let at = usize::try_from(at).ok()?;
        let len = match width {
            Width::Byte => 1,
            Width::Half => 2,
            Width::Word => 4,
        };
        let bytes: ArrayVec<u8, 4> = (at..at.checked_add(len)?).map_while(|at| self.byte(at)).collect();
        (bytes.len() == len).then(|| bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)))
    }
}

impl<'a> From<&'a [u8]> for Packet<'a> {
    fn from(rest: &'a [u8]) -> Self {
        Self { front: &[], rest }
    }
}

/// What a program works with.
#[derive(Debug, Default)]
struct Registers {
    a: u32,
    x: u32,
    memory: [u32; MEMORY],
}

impl Program {
    /// Checks and takes a program.
    pub fn new(instructions: &[Instruction]) -> Result<Self, Invalid> {
        Ok(Self { operations: read::operations(instructions)? })
    }

    /// Whether the packet matches: whether the program returns anything but 0.
    pub fn matches(&self, packet: &Packet<'_>) -> bool {
        self.run(packet).is_some_and(|returned| returned > 0)
    }

    /// What the program returns; `None` where it reads beyond the packet, or divides by zero.
    fn run(&self, packet: &Packet<'_>) -> Option<u32> {
        let (mut registers, mut at) = (Registers::default(), 0);
        loop {
            // Each jump was checked to lead forward, so this ends.
            let operation = *self.operations.get(at)?;
            at += 1;
            match operation {
                Operation::LoadA(source) => registers.a = registers.load(packet, source)?,
                Operation::LoadX(source) => registers.x = registers.load(packet, source)?,
                Operation::StoreA(word) => registers.memory[word] = registers.a,
                Operation::StoreX(word) => registers.memory[word] = registers.x,
                Operation::Compute(arithmetic, operand) => registers.compute(arithmetic, operand)?,
                Operation::Negate => registers.a = registers.a.wrapping_neg(),
                Operation::Jump(to) => at = to,
                Operation::Branch { condition, operand, then, otherwise } => {
                    at = if registers.holds(condition, operand) { then } else { otherwise };
                }
                Operation::ReturnConstant(value) => return Some(value),
                Operation::ReturnA => return Some(registers.a),
                Operation::AToX => registers.x = registers.a,
                Operation::XToA => registers.a = registers.x,
            }
        }
    }
}

impl Registers {
    fn load(&self, packet: &Packet<'_>, source: Source) -> Option<u32> {
        match source {
            Source::Constant(value) => Some(value),
            Source::At(at, width) => packet.read(at.into(), width),
            Source::BehindX(at, width) => packet.read(u64::from(self.x) + u64::from(at), width),
            Source::Len => Some(packet.len() as u32),
            Source::Memory(word) => Some(self.memory[word]),
            Source::HeaderLen(at) => Some((packet.read(at.into(), Width::Byte)? & 0xf) << 2),
        }
    }

    fn value(&self, operand: Operand) -> u32 {
        match operand {
            Operand::Constant(value) => value,
            Operand::X => self.x,
        }
    }

    fn compute(&mut self, arithmetic: Arithmetic, operand: Operand) -> Option<()> {
        let (a, b) = (self.a, self.value(operand));
        self.a = match arithmetic {
            Arithmetic::Add => a.wrapping_add(b),
            Arithmetic::Sub => a.wrapping_sub(b),
            Arithmetic::Mul => a.wrapping_mul(b),
            Arithmetic::Div => a.checked_div(b)?,
            Arithmetic::Mod => a.checked_rem(b)?,
            Arithmetic::And => a & b,
            Arithmetic::Or => a | b,
            Arithmetic::Xor => a ^ b,
            Arithmetic::ShiftLeft => a.checked_shl(b).unwrap_or(0),
            Arithmetic::ShiftRight => a.checked_shr(b).unwrap_or(0),
        };
        Some(())
    }

    fn holds(&self, condition: Condition, operand: Operand) -> bool {
        let (a, b) = (self.a, self.value(operand));
        match condition {
            Condition::Equal => a == b,
            Condition::Greater => a > b,
            Condition::GreaterOrEqual => a >= b,
            Condition::AnyBit => a & b != 0,
        }
    }
}
