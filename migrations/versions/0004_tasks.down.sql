drop table pageformer.task_part, pageformer.task_array, pageformer.task_page, pageformer.task;
