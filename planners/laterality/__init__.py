"""Left and right: classes that are each other's mirror image, and the axes along which mirroring would mistake one for the other.

``names`` and ``extents`` say what may be a pair, ``overlap`` how alike two classes are, ``side_by_side`` puts this together for one
case, and ``pairs`` decides over all cases, for the fingerprint and for the plan.
"""
