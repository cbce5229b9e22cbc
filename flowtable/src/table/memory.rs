//! The arrays of the table: fixed from the start, on huge pages where the kernel has them.
//!
//! At a million connections nearly every packet touches two lines that no cache holds. On pages of 4 KiB each of them
//! also costs a walk of the page tables, itself in memory; on pages of 2 MiB the translations stay in the TLB.

#[cfg(any(loom, miri, asan))]
pub(super) use boxed::Array;
#[cfg(not(any(loom, miri, asan)))]
pub(super) use mapped::Array;

#[cfg(not(any(loom, miri, asan)))]
mod mapped {
    use std::marker::PhantomData;
    use std::ops::Deref;

    use memmap2::{Advice, MmapMut, MmapOptions};

    /// `len` values in memory that the kernel is asked to back by huge pages.
    pub(in super::super) struct Array<T> {
        map: MmapMut,
        len: usize,
        values: PhantomData<T>,
    }

    impl<T> Array<T> {
        /// Makes the values in order, and so touches all of the memory.
        ///
        /// Panics where the address space or the memory does not hold them, as any allocation does.
        #[allow(unsafe_code)]
        pub(in super::super) fn new(len: usize, values: impl Iterator<Item = T>) -> Self {
            const { assert!(align_of::<T>() <= 4096 && size_of::<T>() > 0 && !std::mem::needs_drop::<T>()) }
            let bytes = len.checked_mul(size_of::<T>()).expect("a table larger than the address space");
            let mut map = MmapOptions::new().len(bytes.max(1)).map_anon().expect("memory for the flow table");
            // A kernel without transparent huge pages refuses; the table is then slower, and right.
            let _ = map.advise(Advice::HugePage);
            let first = map.as_mut_ptr().cast::<T>();
            let mut made = 0;
            for (index, value) in values.take(len).enumerate() {
                // SAFETY: index < len, so the place lies in the map, which begins at a page and so is aligned for T;
                // the map is writable and nobody else has it yet.
                unsafe { first.add(index).write(value) };
                made += 1;
            }
            assert_eq!(made, len, "an array wants a value for each place");
            Self { map, len, values: PhantomData }
        }
    }

    impl<T> Deref for Array<T> {
        type Target = [T];

        #[inline]
        #[allow(unsafe_code)]
        fn deref(&self) -> &[T] {
            // SAFETY: `new` has written `len` values there, the map lives as long as self, and nothing reaches it but
            // through this slice: what changes in it are atomics.
            unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), self.len) }
        }
    }
}

#[cfg(any(loom, miri, asan))]
mod boxed {
    use std::ops::Deref;

    /// The same on the heap: loom's atomics are no plain memory, miri has no page to advise about, and AddressSanitizer
    /// watches the ends of what is allocated, not of what is mapped.
    pub(in super::super) struct Array<T>(Box<[T]>);

    impl<T> Array<T> {
        pub(in super::super) fn new(len: usize, values: impl Iterator<Item = T>) -> Self {
            let values: Box<[T]> = values.take(len).collect();
            assert_eq!(values.len(), len, "an array wants a value for each place");
            Self(values)
        }
    }

    impl<T> Deref for Array<T> {
        type Target = [T];

        #[inline]
        fn deref(&self) -> &[T] {
            &self.0
        }
    }
}
