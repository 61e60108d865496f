"""All sessions into the order by name at once. See ext/nameorder.pyx."""

from online.core.core cimport Core

cdef void core_order_names(Core* core) noexcept nogil
