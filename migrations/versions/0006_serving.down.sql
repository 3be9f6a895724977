delete from pageformer.setting where name = 'executor';
